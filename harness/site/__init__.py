"""One static site from one or more stores, read in a browser without a server or a network."""
