"""Evidence taken away: what is masked, what comes in its place, and when a map is known.

`regions` say what is masked, one file each; `replacements` what is seen there; `designs` which regions are
masked together and what scores then say of each; `looks` when a map is known well enough.
"""
