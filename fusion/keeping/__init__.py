"""What is kept of learning: heads and runs in folders, answers and predictions in files."""
