# << title >>: project, synthesis, implementation, the timing gate, reports, hardware hand-off.
# Generated for configuration << config.name >>, digest << digest >>. Not run where it was generated.
#
#   vivado -mode batch -source build.tcl
#
# Ends with 0 only when setup and hold slack are not negative: nothing is packaged otherwise.

set here [file normalize [file dirname [info script]]]
set jobs [expr {[info exists ::env(JOBS)] ? $::env(JOBS) : 4}]
file mkdir $here/reports $here/output

proc fail {code sentence} {
    puts "ERROR: \[kria_llm\] $sentence"
    exit $code
}

create_project -force kria_llm $here/vivado -part << part >>

# Several revisions of the board's files are in use: take the newest that this Vivado has.
set boards [get_board_parts -quiet -latest_file_version {<< board_part >>}]
if {[llength $boards] == 0} {
    fail 3 "this Vivado has no files of the << board >>: install them (Tools, Vivado Store, Boards)"
}
set_property board_part [lindex $boards end] [current_project]
set_property board_connections {<< connections >>} [current_project]
set_property target_language Verilog [current_project]

add_files -norecurse [list $here/kria_llm.v $here/kria_llm_board.v]
add_files -fileset constrs_1 -norecurse [list $here/pins.xdc $here/timing.xdc]
set_property used_in_synthesis false [get_files timing.xdc]
update_compile_order -fileset sources_1

source $here/block_design.tcl

set bd [get_files << design >>.bd]
# One synthesis of everything: the engine and its register slices are optimised together.
set_property synth_checkpoint_mode None $bd
generate_target all $bd
add_files -norecurse [make_wrapper -files $bd -top]
set_property top << design >>_wrapper [current_fileset]
update_compile_order -fileset sources_1

# Copies of the reset register are meant: merged, one of them would drive the whole device.
set_property STEPS.SYNTH_DESIGN.ARGS.KEEP_EQUIVALENT_REGISTERS true [get_runs synth_1]
set_property strategy Performance_ExplorePostRoutePhysOpt [get_runs impl_1]

launch_runs synth_1 -jobs $jobs
wait_on_run synth_1
if {![string match "*Complete!*" [get_property STATUS [get_runs synth_1]]]} {
    fail 4 "synthesis did not end: see vivado/kria_llm.runs/synth_1/runme.log"
}
# An array written from several places simulates right and synthesises wrong.
set log [open [get_property DIRECTORY [get_runs synth_1]]/runme.log]
set messages [read $log]
close $log
if {[string first "Synth 8-4767" $messages] >= 0} {
    fail 4 "synthesis built a memory of registers (Synth 8-4767 in synth_1/runme.log): do not use it"
}

launch_runs impl_1 -jobs $jobs
wait_on_run impl_1
if {![string match "*Complete!*" [get_property STATUS [get_runs impl_1]]]} {
    fail 4 "implementation did not end: see vivado/kria_llm.runs/impl_1/runme.log"
}
open_run impl_1

report_timing_summary -max_paths 20 -file $here/reports/<< design >>_wrapper_timing_summary_routed.rpt
report_utilization -file $here/reports/<< design >>_wrapper_utilization_placed.rpt
report_utilization -hierarchical -file $here/reports/hierarchy.rpt
report_power -file $here/reports/power.rpt
report_cdc -file $here/reports/cdc.rpt
report_methodology -file $here/reports/methodology.rpt
report_high_fanout_nets -max_nets 30 -file $here/reports/fanout.rpt
report_design_analysis -logic_level_distribution -file $here/reports/levels.rpt

# The gate: a design that misses its clock is not packaged.
set setup [get_property SLACK [get_timing_paths -setup]]
set hold [get_property SLACK [get_timing_paths -hold]]
puts "kria_llm: worst slack is $setup ns for setup, $hold ns for hold, at << clock_mhz >> MHz"
if {$setup eq "" || $hold eq ""} {
    fail 5 "no path is constrained: the clock does not reach the design"
}
if {$setup < 0 || $hold < 0} {
    fail 5 "timing is not met (setup $setup ns, hold $hold ns): nothing was packaged; see reports"
}

launch_runs impl_1 -to_step write_bitstream -jobs $jobs
wait_on_run impl_1
set bits [glob -nocomplain [get_property DIRECTORY [get_runs impl_1]]/*.bit]
if {[llength $bits] != 1} {
    fail 4 "there is no bitstream: see vivado/kria_llm.runs/impl_1/runme.log"
}
write_hw_platform -fixed -include_bit -force -file $here/output/kria_llm.xsa
file copy -force [lindex $bits 0] $here/output/<< app >>.bit
foreach hwh [glob $here/vivado/kria_llm.gen/sources_1/bd/<< design >>/hw_handoff/*.hwh] {
    file copy -force $hwh $here/output/<< app >>.hwh
}
puts "kria_llm: timing met; output/<< app >>.bit is ready for make package"
exit 0
