"""The comparison with rivals: data, protocol, measures, claims and presentation."""
