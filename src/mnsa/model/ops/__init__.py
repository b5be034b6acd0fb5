"""Operations that are faster or smaller than their plain PyTorch form, each tested against it."""
