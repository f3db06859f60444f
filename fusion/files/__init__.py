"""Files that are whole or absent: written aside, synced, renamed into place, sealed with a digest."""
