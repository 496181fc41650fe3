// The one file that brings Catch2's main, where the system has version 2.
#if !__has_include(<catch2/catch_all.hpp>)
#define CATCH_CONFIG_MAIN
#endif
#include "check.hpp"
