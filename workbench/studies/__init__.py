"""Studies, a folder each: `study.py` declares and computes, `report.py` says it in words and pictures."""
