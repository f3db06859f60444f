"""The statistics under a table: intervals, paired tests, groups that cannot be told apart, what a test set can show."""
