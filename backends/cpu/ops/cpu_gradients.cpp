// Drivers of reverse passes that are no products: embed_dw.
#include "backends/cpu/op_context.h"

namespace moe::cpu {

// Each part owns a run of the table's rows and looks for their ids among all tokens: a row's sum has one order.
void run_embed_dw(const OpContext& c) {
  const Tensor dy = c.in(0), ids = c.in(1), grad = c.in(2);
  const int64_t d = dy.shape.last();
  const Range mine = c.my_range(grad.shape[0]);
  for (int64_t t = 0; t < ids.shape[0]; ++t) {
    const int32_t id = ids.i32()[t];
    MOE_CHECK(id >= 0 && id < grad.shape[0]);
    if (id >= mine.begin && id < mine.end) c.kernels.add(grad.f32() + id * d, dy.f32() + t * d, grad.f32() + id * d, d);
  }
}

}  // namespace moe::cpu
