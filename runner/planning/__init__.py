"""From a sweep file to the cells that will run."""
