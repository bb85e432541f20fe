"""Everything that holds for any network, whatever its samples are."""
