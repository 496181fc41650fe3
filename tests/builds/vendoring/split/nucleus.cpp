// The one file of a program with the bodies, where all are compiled with -DNUCLEUS_SPLIT.
#define NUCLEUS_IMPLEMENTATION
#include "nucleus.hpp"
