"""Where commands run. Each box has one boxd endpoint; a provider only creates and removes boxes."""
