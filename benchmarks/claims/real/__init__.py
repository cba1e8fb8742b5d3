"""Maps of published networks on their own data: steering angles, ages, heart beats."""
