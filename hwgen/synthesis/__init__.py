"""Resources and the depth rule of a design, out of a netlist that Yosys mapped to the XCK26."""
