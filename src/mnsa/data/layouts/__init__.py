"""What other tools' layouts are made of, in and out: regions, run lengths, outlines, facts and careful files."""
