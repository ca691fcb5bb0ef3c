// Elementary functions with the same bits on every platform and compiler: only +, −, ×, ÷, sqrt and integer steps in a fixed
// order. Accurate to a few ulp of double; for random distributions, sampling and optimisers, not for kernels.
#pragma once

namespace moe::mathx {

double exp(double x);
double log(double x);      // −infinity at 0, NaN below
double sin_2pi(double x);  // sin(2πx), exact at multiples of a quarter; most accurate for x in [0, 1)
double cos_2pi(double x);

}  // namespace moe::mathx
