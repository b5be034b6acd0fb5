"""Width search: a space of networks, trials that train them, a study that many processes share. Optuna lives here."""
