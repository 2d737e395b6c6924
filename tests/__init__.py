"""Tests: `space/` and `training/` mirror the packages, `support/` has what they share, `tools/` are run by hand."""
