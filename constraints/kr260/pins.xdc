# Pins of the KR260 that the block design uses. Sources: UG1092, the board's published XDC.
# Bank 45, 3.3 V.
set_property PACKAGE_PIN A12 [get_ports fan_en_b]
set_property IOSTANDARD LVCMOS33 [get_ports fan_en_b]
set_property SLEW SLOW [get_ports fan_en_b]
set_property DRIVE 4 [get_ports fan_en_b]
