"""Bar files as vendors write them: encodings, separators, headers, number and date formats, found out and reported."""
