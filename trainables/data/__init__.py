"""Bars, features, labels, splits, scaling and windows of one trial, and the catalog of built datasets."""
