/* A plugin of qemu-user that counts the instructions a program executes. Whenever the program writes to its stdout, the number
 * executed since its last write is put in front of what it writes: "<count> <the program's line>". So a program marks what it
 * wants counted by a write before and a write after.
 *
 * qemu's packages bring no header, so the few declarations used (include/qemu/qemu-plugin.h, the same in API versions 1 to 4)
 * are written out here. PLUGIN_VERSION is the version that the emulator at hand accepts; the script tries them. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb* tb);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t id, struct qemu_plugin_tb* tb));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb* tb, void (*cb)(unsigned vcpu, void* data), int flags,
                                          void* data);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t id, unsigned vcpu, int64_t number,
                                                                          uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                                                                          uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8));

__attribute__((visibility("default"))) int qemu_plugin_version = PLUGIN_VERSION;

enum { kNoRegisters = 0, kAarch64Write = 64, kStdout = 1 };
static uint64_t executed, executed_at_last_write;

/* A translation block is straight code: either none or all of it is executed. */
static void count_block(unsigned vcpu, void* n_instructions) {
  (void)vcpu;
  executed += (uintptr_t)n_instructions;
}

static void on_block(qemu_plugin_id_t id, struct qemu_plugin_tb* tb) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_cb(tb, count_block, kNoRegisters, (void*)(uintptr_t)qemu_plugin_tb_n_insns(tb));
}

static void on_syscall(qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t fd, uint64_t a2, uint64_t a3, uint64_t a4,
                       uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
  (void)id, (void)vcpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
  if (number != kAarch64Write || fd != kStdout) return;
  printf("%" PRIu64 " ", executed - executed_at_last_write);
  fflush(stdout);
  executed_at_last_write = executed;
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void* info, int argc, char** argv) {
  (void)info, (void)argc, (void)argv;
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
  qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
  return 0;
}
