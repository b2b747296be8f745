# Timing of the block design. The period is the MMCM's: Vivado derives it from pl_clk0 and the MMCM's
# settings, so that no file can claim another clock than the one that runs. The design has one clock
# domain; the only crossings lie in proc_sys_reset, which brings its own constraints.

# The fan's pulse width is made by TTC0, a clock of the PS: no path of the design ends there.
set_false_path -to [get_ports fan_en_b]
