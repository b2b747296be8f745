# Timing constraint for out-of-context synthesis of the generated module `kria_llm`
# (Vivado: synth_design -mode out_of_context -part xck26-sfvc784-2LV-c). Not run: nobody here has
# Vivado. In a block design the clock comes from the processing system or an MMCM and this file
# must not be used.

# 250 MHz, the kv260 preset's clock_mhz. Four HP ports of 128 bits then carry 16.0 GB/s.
create_clock -name aclk -period 4.000 [get_ports aclk]
