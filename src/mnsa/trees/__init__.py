"""Boosted trees (XGBoost) in place of the linear class head."""
