// Prints the instruction set that is chosen here.
#include <cstdio>

#include "headwise/runtime.hpp"

int main() { std::puts(headwise::active_isa()); }
