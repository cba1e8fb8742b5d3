"""The default call on architectures of public libraries, each beside hooks and autograd by hand."""
