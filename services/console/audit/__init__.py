"""What everybody did: kept in chains of hashes, signed each minute, exported, verified."""
