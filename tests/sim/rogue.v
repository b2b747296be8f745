// A stand-in for the design, with its ports for one AXI port of 128 bits: on a doorbell of n it
// reads n bursts from the list address on, and writes the XOR of their beats, one burst, 1 MB after.
// The scratch register makes it break one rule, so that the harness's checks can be seen to fail.
module kria_llm #(parameter BEATS = 16, OUTSTANDING = 8) (
  input aclk, input aresetn, output irq,
  input [15:0] s_axi_control_awaddr, input [2:0] s_axi_control_awprot,
  input s_axi_control_awvalid, output s_axi_control_awready,
  input [31:0] s_axi_control_wdata, input [3:0] s_axi_control_wstrb,
  input s_axi_control_wvalid, output s_axi_control_wready,
  output [1:0] s_axi_control_bresp, output reg s_axi_control_bvalid, input s_axi_control_bready,
  input [15:0] s_axi_control_araddr, input [2:0] s_axi_control_arprot,
  input s_axi_control_arvalid, output s_axi_control_arready,
  output reg [31:0] s_axi_control_rdata, output [1:0] s_axi_control_rresp,
  output reg s_axi_control_rvalid, input s_axi_control_rready,
  output [39:0] m_axi_hp0_araddr, output [7:0] m_axi_hp0_arlen, output [2:0] m_axi_hp0_arsize,
  output [1:0] m_axi_hp0_arburst, output reg m_axi_hp0_arvalid, input m_axi_hp0_arready,
  output m_axi_hp0_arid, m_axi_hp0_awid, input m_axi_hp0_rid, m_axi_hp0_bid,
  input [127:0] m_axi_hp0_rdata, input [1:0] m_axi_hp0_rresp, input m_axi_hp0_rlast,
  input m_axi_hp0_rvalid, output m_axi_hp0_rready,
  output [39:0] m_axi_hp0_awaddr, output [7:0] m_axi_hp0_awlen, output [2:0] m_axi_hp0_awsize,
  output [1:0] m_axi_hp0_awburst, output reg m_axi_hp0_awvalid, input m_axi_hp0_awready,
  output [127:0] m_axi_hp0_wdata, output [15:0] m_axi_hp0_wstrb, output m_axi_hp0_wlast,
  output reg m_axi_hp0_wvalid, input m_axi_hp0_wready,
  input [1:0] m_axi_hp0_bresp, input m_axi_hp0_bvalid, output m_axi_hp0_bready);

  localparam CROSSING = 1, LONG = 2, NARROW = 3, FIXED = 4, UNALIGNED = 5, UNSTABLE = 6,
             GREEDY = 7, NO_LAST = 8, FICKLE = 9, SILENT = 10, ENDLESS = 11, DEAF = 12;

  reg [31:0] registers [0:31];
  wire [31:0] rule = registers[4];
  wire [39:0] list = {registers[11][7:0], registers[10]};
  reg busy, error;
  reg [31:0] to_ask, to_come, noise;
  reg [39:0] address;
  reg [127:0] sum;
  reg [7:0] in_flight, to_write;

  wire write = s_axi_control_awvalid & s_axi_control_wvalid & !s_axi_control_bvalid;
  assign s_axi_control_awready = write, s_axi_control_wready = write;
  assign s_axi_control_arready = !s_axi_control_rvalid & rule != DEAF;
  assign s_axi_control_bresp = 0, s_axi_control_rresp = 0, irq = 0;

  assign m_axi_hp0_araddr = address + (rule == CROSSING ? 40'd128 : rule == UNALIGNED ? 40'd4 : 0)
                                    + (rule == UNSTABLE ? {noise[0], 8'd0} : 0);
  assign m_axi_hp0_arlen = rule == LONG ? 2 * BEATS - 1 : BEATS - 1;
  assign m_axi_hp0_arsize = rule == NARROW ? 3 : 4, m_axi_hp0_arburst = rule == FIXED ? 0 : 1;
  assign m_axi_hp0_rready = 1, m_axi_hp0_arid = 0, m_axi_hp0_awid = 0;
  assign m_axi_hp0_awaddr = list + 40'h100000, m_axi_hp0_awlen = BEATS - 1;
  assign m_axi_hp0_awsize = 4, m_axi_hp0_awburst = 1, m_axi_hp0_bready = 1;
  assign m_axi_hp0_wdata = sum ^ (rule == FICKLE ? noise : 0), m_axi_hp0_wstrb = 16'hFFFF;
  assign m_axi_hp0_wlast = (to_write == 1) & rule != NO_LAST;

  wire asked = m_axi_hp0_arvalid & m_axi_hp0_arready;
  wire came = m_axi_hp0_rvalid & m_axi_hp0_rlast;
  wire room = rule == GREEDY ? in_flight + asked < OUTSTANDING + 2 : in_flight + asked < OUTSTANDING;
  integer i;

  always @(posedge aclk) if (!aresetn) begin
    {busy, error, to_ask, to_come, in_flight, to_write, noise} <= 0;
    {s_axi_control_bvalid, s_axi_control_rvalid} <= 0;
    {m_axi_hp0_arvalid, m_axi_hp0_awvalid, m_axi_hp0_wvalid} <= 0;
    for (i = 0; i < 32; i = i + 1) registers[i] <= 0;
  end else begin
    noise <= noise + 1;
    if (s_axi_control_bready) s_axi_control_bvalid <= 0;
    if (s_axi_control_rready) s_axi_control_rvalid <= 0;
    if (s_axi_control_arvalid & s_axi_control_arready) begin
      s_axi_control_rvalid <= 1;
      s_axi_control_rdata <= s_axi_control_araddr[8:4] == 5 ? {error, busy}
                                                            : registers[s_axi_control_araddr[8:4]];
    end
    in_flight <= in_flight + asked - came;
    if (to_ask != asked & room) m_axi_hp0_arvalid <= 1;
    else if (asked) m_axi_hp0_arvalid <= 0;
    if (asked) begin
      address <= address + 16 * BEATS;
      if (rule != ENDLESS) to_ask <= to_ask - 1;
      else address <= list;
    end
    if (m_axi_hp0_rvalid) begin
      sum <= sum ^ m_axi_hp0_rdata;
      error <= error | m_axi_hp0_rresp != 0;
    end
    if (came) begin
      to_come <= to_come - 1;
      if (to_come == 1 & rule != SILENT & rule != ENDLESS) begin
        {m_axi_hp0_awvalid, m_axi_hp0_wvalid} <= 3;
        to_write <= BEATS;
      end
    end
    if (m_axi_hp0_awvalid & m_axi_hp0_awready) m_axi_hp0_awvalid <= 0;
    if (m_axi_hp0_wvalid & m_axi_hp0_wready) begin
      to_write <= to_write - 1;
      if (to_write == 1) m_axi_hp0_wvalid <= 0;
    end
    if (m_axi_hp0_bvalid) begin
      busy <= 0;
      error <= error | m_axi_hp0_bresp != 0;
    end
    if (write) begin
      s_axi_control_bvalid <= 1;
      registers[s_axi_control_awaddr[8:4]] <= s_axi_control_wdata;
      if (s_axi_control_awaddr[8:4] == 12) begin
        {busy, error} <= 2;
        sum <= 0;
        to_ask <= s_axi_control_wdata;
        to_come <= s_axi_control_wdata;
        address <= list;
      end
    end
  end
endmodule
