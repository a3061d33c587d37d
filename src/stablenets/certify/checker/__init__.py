"""The independent checker: numpy and the two files, nothing of the code that made them. Entry: `certify.verify`."""
