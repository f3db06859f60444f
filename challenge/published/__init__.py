"""Other people's tables: read, turned into whole numbers of faces, and searched for cells that cannot be."""
