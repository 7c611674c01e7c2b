"""Checks of the data before any trial starts: can these splits decide anything, and do they hold what they seem to?"""
