# Block design of << title >>, configuration << config.name >>, digest << digest >>. Sourced by build.tcl.

create_bd_design << design >>

# --- Processing system -----------------------------------------------------------------------------
# On a Kria module the stock firmware's settings of the PS run, never these: they only have to agree
# with it. HPM0 is therefore << control_bits >> bits wide, as the firmware leaves it.
set ps [create_bd_cell -type ip -vlnv xilinx.com:ip:zynq_ultra_ps_e zynq_ultra_ps_e_0]
apply_bd_automation -rule xilinx.com:bd_rule:zynq_ultra_ps_e -config {apply_board_preset "1"} $ps
set wanted [list \
<%- for name, value in ps_properties %>
    CONFIG.<< name >> {<< value >>} \
<%- endfor %>
]
set_property -dict $wanted $ps
# The PS drops a setting that it does not take without an error: read back what matters.
foreach {name value} $wanted {
    set found [get_property $name $ps]
    if {$found != $value} {
        error "kria_llm: $name is $found after it was set to $value: this Vivado's PS differs"
    }
}

# --- Clock and reset ---------------------------------------------------------------------------------
# The MMCM makes << clock_mhz >> MHz of the firmware's 100 MHz, so no driver has to set a clock. It is
# not reset with the logic: an access to logic without a clock would hang the whole PS.
create_bd_cell -type ip -vlnv xilinx.com:ip:clk_wiz clk_wiz_0
set_property -dict [list \
    CONFIG.PRIM_SOURCE {Global_buffer} \
    CONFIG.CLKOUT1_REQUESTED_OUT_FREQ {<< clock_mhz >>} \
    CONFIG.USE_LOCKED {true} \
    CONFIG.USE_RESET {false} \
] [get_bd_cells clk_wiz_0]
connect_bd_net [get_bd_pins zynq_ultra_ps_e_0/pl_clk0] [get_bd_pins clk_wiz_0/clk_in1]

create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset proc_sys_reset_0
connect_bd_net [get_bd_pins zynq_ultra_ps_e_0/pl_resetn0] [get_bd_pins proc_sys_reset_0/ext_reset_in]
connect_bd_net [get_bd_pins clk_wiz_0/locked] [get_bd_pins proc_sys_reset_0/dcm_locked]

# --- The engine --------------------------------------------------------------------------------------
create_bd_cell -type module -reference kria_llm_board kria_llm_0
connect_bd_net [get_bd_pins kria_llm_0/irq] [get_bd_pins zynq_ultra_ps_e_0/pl_ps_irq0]

# Control: HPM0_FPD -> AXI4-Lite of 32 bits.
create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect control_0
set_property -dict [list CONFIG.NUM_SI {1} CONFIG.NUM_MI {1} CONFIG.NUM_CLKS {1}] [get_bd_cells control_0]
connect_bd_intf_net [get_bd_intf_pins zynq_ultra_ps_e_0/M_AXI_HPM0_FPD] [get_bd_intf_pins control_0/S00_AXI]
connect_bd_intf_net [get_bd_intf_pins control_0/M00_AXI] [get_bd_intf_pins kria_llm_0/s_axi_control]

# Memory: each port through a register slice, so that the way to the PS's edge is its own stage.
<%- for port in range(config.ports) %>
create_bd_cell -type ip -vlnv xilinx.com:ip:axi_register_slice slice_hp<< port >>
set_property -dict [list CONFIG.REG_AR {1} CONFIG.REG_R {1} CONFIG.REG_AW {1} CONFIG.REG_W {1} CONFIG.REG_B {1}] [get_bd_cells slice_hp<< port >>]
connect_bd_intf_net [get_bd_intf_pins kria_llm_0/m_axi_hp<< port >>] [get_bd_intf_pins slice_hp<< port >>/S_AXI]
connect_bd_intf_net [get_bd_intf_pins slice_hp<< port >>/M_AXI] [get_bd_intf_pins zynq_ultra_ps_e_0/S_AXI_HP<< port >>_FPD]
<%- endfor %>

# --- One clock, one reset ----------------------------------------------------------------------------
connect_bd_net [get_bd_pins clk_wiz_0/clk_out1] \
    [get_bd_pins proc_sys_reset_0/slowest_sync_clk] \
    [get_bd_pins kria_llm_0/aclk] \
    [get_bd_pins control_0/aclk] \
<%- for port in range(config.ports) %>
    [get_bd_pins slice_hp<< port >>/aclk] \
    [get_bd_pins zynq_ultra_ps_e_0/saxihp<< port >>_fpd_aclk] \
<%- endfor %>
    [get_bd_pins zynq_ultra_ps_e_0/maxihpm0_fpd_aclk]
connect_bd_net [get_bd_pins proc_sys_reset_0/peripheral_aresetn] \
<%- for port in range(config.ports) %>
    [get_bd_pins slice_hp<< port >>/aresetn] \
<%- endfor %>
    [get_bd_pins kria_llm_0/aresetn]
connect_bd_net [get_bd_pins proc_sys_reset_0/interconnect_aresetn] [get_bd_pins control_0/aresetn]

# --- Fan: the kernel's pwm-fan drives it through TTC0, third output ------------------------------------
create_bd_cell -type ip -vlnv xilinx.com:ip:xlslice fan_0
set_property -dict [list CONFIG.DIN_WIDTH {3} CONFIG.DIN_FROM {2} CONFIG.DIN_TO {2} CONFIG.DOUT_WIDTH {1}] [get_bd_cells fan_0]
connect_bd_net [get_bd_pins zynq_ultra_ps_e_0/emio_ttc0_wave_o] [get_bd_pins fan_0/Din]
create_bd_port -dir O fan_en_b
connect_bd_net [get_bd_pins fan_0/Dout] [get_bd_ports fan_en_b]

# --- Addresses: an access outside them is answered DECERR ----------------------------------------------
assign_bd_address -offset << control_base >> -range 64K -target_address_space [get_bd_addr_spaces zynq_ultra_ps_e_0/Data] [get_bd_addr_segs kria_llm_0/s_axi_control/reg0]
<%- for port in range(config.ports) %>
assign_bd_address -offset 0x000000000 -range 2G -target_address_space [get_bd_addr_spaces kria_llm_0/m_axi_hp<< port >>] [get_bd_addr_segs zynq_ultra_ps_e_0/SAXIGP<< port + 2 >>/HP<< port >>_DDR_LOW]
assign_bd_address -offset 0x800000000 -range 2G -target_address_space [get_bd_addr_spaces kria_llm_0/m_axi_hp<< port >>] [get_bd_addr_segs zynq_ultra_ps_e_0/SAXIGP<< port + 2 >>/HP<< port >>_DDR_HIGH]
exclude_bd_addr_seg -target_address_space [get_bd_addr_spaces kria_llm_0/m_axi_hp<< port >>] [get_bd_addr_segs zynq_ultra_ps_e_0/SAXIGP<< port + 2 >>/HP<< port >>_QSPI]
exclude_bd_addr_seg -target_address_space [get_bd_addr_spaces kria_llm_0/m_axi_hp<< port >>] [get_bd_addr_segs zynq_ultra_ps_e_0/SAXIGP<< port + 2 >>/HP<< port >>_LPS_OCM]
<%- endfor %>

validate_bd_design
save_bd_design
