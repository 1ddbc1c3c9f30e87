"""Where commands run. Every box is one boxd endpoint; a provider only makes and removes boxes."""
