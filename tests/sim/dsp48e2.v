// Behavioural DSP48E2 for simulation: the part of AMD UG579 that the design uses, written from the
// manual's text. One register in each path, multiplier with pre-adder, X and Y from the product,
// Z zero or the cascade. Whatever else is asked for ends the simulation.
module DSP48E2 #(
  parameter AMULTSEL = "A", parameter BMULTSEL = "B",
  parameter A_INPUT = "DIRECT", parameter B_INPUT = "DIRECT",
  parameter USE_MULT = "MULTIPLY", parameter USE_SIMD = "ONE48",
  parameter USE_PATTERN_DETECT = "NO_PATDET",
  parameter integer AREG = 1, parameter integer ACASCREG = 1,
  parameter integer BREG = 1, parameter integer BCASCREG = 1,
  parameter integer CREG = 1, parameter integer DREG = 1, parameter integer ADREG = 1,
  parameter integer MREG = 1, parameter integer PREG = 1,
  parameter integer INMODEREG = 1, parameter integer OPMODEREG = 1,
  parameter integer ALUMODEREG = 1, parameter integer CARRYINREG = 1,
  parameter integer CARRYINSELREG = 1
) (
  input CLK,
  input [29:0] A, input [17:0] B, input [47:0] C, input [26:0] D,
  input [29:0] ACIN, input [17:0] BCIN, input [47:0] PCIN,
  input CARRYCASCIN, input MULTSIGNIN, input CARRYIN,
  input [8:0] OPMODE, input [3:0] ALUMODE, input [2:0] CARRYINSEL, input [4:0] INMODE,
  input CEA1, input CEA2, input CEB1, input CEB2, input CEC, input CED, input CEAD,
  input CEM, input CEP, input CEALUMODE, input CECARRYIN, input CECTRL, input CEINMODE,
  input RSTA, input RSTALLCARRYIN, input RSTALUMODE, input RSTB, input RSTC, input RSTCTRL,
  input RSTD, input RSTINMODE, input RSTM, input RSTP,
  output [47:0] P, output [47:0] PCOUT
);
  reg signed [29:0] a2;
  reg signed [17:0] b2;
  reg signed [26:0] d;
  reg signed [26:0] ad;
  reg signed [44:0] m;
  reg [47:0] p;

  // INMODE[2] adds D, INMODE[3] subtracts A, INMODE[1] gates A, INMODE[0] takes A1, INMODE[4] B1.
  wire signed [26:0] pre_a = a2[26:0];
  wire signed [26:0] pre_d = INMODE[2] ? d : 27'sd0;
  wire signed [26:0] multiplicand = AMULTSEL == "AD" ? ad : pre_a;
  wire [47:0] product = {{3{m[44]}}, m};
  wire [47:0] z = OPMODE[6:4] == 3'b001 ? PCIN : 48'd0;

  always @(posedge CLK) begin
    if (CEA2) a2 <= A;
    if (CEB2) b2 <= B;
    if (CED) d <= D;
    if (CEAD) ad <= pre_d + pre_a;
    if (CEM) m <= multiplicand * b2;
    if (CEP) p <= product + z;
  end
  assign P = p;
  assign PCOUT = p;

  initial begin
    if (AREG != 1 || BREG != 1 || DREG != 1 || ADREG != 1 || MREG != 1 || PREG != 1
        || INMODEREG != 0 || OPMODEREG != 0 || ALUMODEREG != 0 || USE_MULT != "MULTIPLY"
        || A_INPUT != "DIRECT" || B_INPUT != "DIRECT" || BMULTSEL != "B"
        || USE_SIMD != "ONE48")
      $fatal(1, "DSP48E2: attributes that this model does not have");
  end
  always @(posedge CLK)
    if (INMODE[4:3] != 0 || INMODE[1:0] != 0 || OPMODE[8:7] != 0 || OPMODE[3:0] != 4'b0101
        || (OPMODE[6:4] != 3'b000 && OPMODE[6:4] != 3'b001) || ALUMODE != 0 || CARRYIN != 0
        || CARRYINSEL != 0 || CEA1 || CEB1 || RSTA || RSTB || RSTD || RSTM || RSTP)
      $fatal(1, "DSP48E2: a mode that this model does not have");
endmodule
