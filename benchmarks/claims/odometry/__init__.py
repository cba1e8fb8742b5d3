"""Claims about maps of odometry."""
