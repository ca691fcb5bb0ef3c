// How far a model's next-token distributions are from those of another: KL(full ‖ candidate), row by row, exact over the whole
// vocabulary.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/status.h"
#include "core/threads.h"
#include "models/tokenizer/tokenizer_data.h"

namespace moe {

// What the full model says: R rows.
struct TeacherRows {
  std::vector<float> p;               // (R, V) probabilities
  std::vector<double> mass, entropy;  // (R) Σ p, near 1, and −Σ p ln p
};
inline size_t teacher_row_bytes(int n_vocab) { return static_cast<size_t>(n_vocab) * sizeof(float) + 2 * sizeof(double); }

struct RowScore {
  double kl = 0;   // nats; may be a rounding below 0
  double nll = 0;  // −ln q(target)
};

// logits (R, V). The threads share rows, never a sum. kCorrupt for logits that make no distribution.
Status teach(std::span<const float> logits, int n_vocab, ThreadPool& pool, TeacherRows& rows);
// targets, scores (R); `teacher` may be null, then kl is 0.
Status score_rows(std::span<const float> logits, int n_vocab, const TeacherRows* teacher, std::span<const Token> targets,
                  ThreadPool& pool, std::span<RowScore> scores);

}  // namespace moe
