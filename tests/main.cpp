// The one main() of build/bin/moe-tests; every tests/**/*_test.cpp is linked to it.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
