"""Boosted trees as a class head; knows arrays and files, nothing of networks. The one room that knows XGBoost."""
