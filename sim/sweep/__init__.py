"""``hwgen sweep``: many configurations, each as far as it earns."""
