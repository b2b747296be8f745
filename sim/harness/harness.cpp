// The C ABI of the simulated device; sim/device.py is its caller. Nothing here throws.

#include "simulation.hpp"

extern "C" {

/// `ddr4` is nullptr for the ideal memory; otherwise the memory keeps DDR4 timing beside a design
/// clocked at `clock_khz`, and latency and jitter mean nothing.
sim::Simulation* sim_create(uint64_t latency, uint64_t jitter, uint64_t stall_seed,
                            const sim::Ddr4Parameters* ddr4, uint32_t clock_khz) {
  return new sim::Simulation({latency, jitter, stall_seed, ddr4, clock_khz});
}
void sim_destroy(sim::Simulation* sim) { delete sim; }
void sim_reset(sim::Simulation* sim) { sim->reset(); }
uint64_t sim_cycle(const sim::Simulation* sim) { return sim->now(); }

/// The caller keeps `bytes` alive until sim_destroy.
void sim_set_memory(sim::Simulation* sim, uint64_t base, uint8_t* bytes, uint64_t size) {
  sim->arena().set(base, bytes, size);
}
void sim_add_fault(sim::Simulation* sim, uint64_t address, uint32_t response) {
  sim->arena().add_fault(address, static_cast<uint8_t>(response));
}
void sim_clear_faults(sim::Simulation* sim) { sim->arena().clear_faults(); }

/// One of `sim::Wrong` at a burst of a read port, or of the write port (-1).
void sim_inject(sim::Simulation* sim, int port, uint32_t wrong, uint64_t burst, uint32_t beat,
                uint64_t amount) {
  sim->wrongs(port).add({static_cast<sim::Wrong>(wrong), burst, beat, amount});
}
/// Ends all injections; what they held back comes now. Bursts are counted from here.
void sim_clear_injections(sim::Simulation* sim) {
  for (int port = -1; port < sim::kPorts; ++port) sim->wrongs(port).clear();
}

int sim_write_register(sim::Simulation* sim, uint32_t offset, uint32_t value) {
  sim->control().start_write(static_cast<uint16_t>(offset), value);
  return sim->finish_access();
}
int sim_read_register(sim::Simulation* sim, uint32_t offset, uint32_t* value) {
  sim->control().start_read(static_cast<uint16_t>(offset));
  const int answer = sim->finish_access();
  *value = sim->control().value();
  return answer;
}

/// Steps `cycles` cycles.
void sim_step(sim::Simulation* sim, uint64_t cycles) {
  for (uint64_t i = 0; i < cycles; ++i) sim->cycle();
}

/// Reads the register at `offset` every `interval` cycles until its `mask` bits are zero (0), or
/// `cycles` have passed (3), or an access fails (1, 2 as above).
int sim_run(sim::Simulation* sim, uint64_t cycles, uint32_t interval, uint32_t offset,
            uint32_t mask) {
  const uint64_t limit = sim->now() + cycles;
  for (;;) {
    uint32_t value = 0;
    if (const int failed = sim_read_register(sim, offset, &value)) return failed;
    if (!(value & mask)) return 0;
    if (sim->now() >= limit) return 3;
    sim_step(sim, interval);
  }
}

void sim_statistics(const sim::Simulation* sim, sim::Statistics* out) { *out = sim->statistics(); }
/// 0: done; 1: the memory has no DDR4 timing.
int sim_ddr4_statistics(const sim::Simulation* sim, sim::Ddr4Statistics* out) {
  if (!sim->ddr4()) return 1;
  *out = sim->ddr4()->statistics();
  return 0;
}
uint64_t sim_breaches(const sim::Simulation* sim) { return sim->protocol().breaches(); }
const char* sim_first_breach(const sim::Simulation* sim) {
  return sim->protocol().first().c_str();
}

int sim_trace(sim::Simulation* sim, const char* path) { return sim->trace(path); }

}  // extern "C"
