"""The accelerator as a device: transport, driver, command lists, software devices."""
