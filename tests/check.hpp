// Catch2, version 2 or 3, whichever the system has.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

// What a platform has not got is not tested there. tests/builds/missing.txt lists these tests.
// Those that need over 20 MB of memory are tagged [large].
#if defined(NUCLEUS_NO_THREADS) || defined(__wasi__) || \
    (defined(__EMSCRIPTEN__) && !defined(__EMSCRIPTEN_PTHREADS__))
#define NUCLEUS_TESTS_THREADS 0
#else
#define NUCLEUS_TESTS_THREADS 1
#endif
#if defined(NUCLEUS_NO_FILES)
#define NUCLEUS_TESTS_SYSTEM 0  // no files, no environment
#else
#define NUCLEUS_TESTS_SYSTEM 1
#endif
#if NUCLEUS_TESTS_SYSTEM && !defined(_WIN32) && !defined(__wasi__) && !defined(__EMSCRIPTEN__)
#define NUCLEUS_TESTS_PROCESSES 1  // fork(), signals, users and their rights, sockets
#else
#define NUCLEUS_TESTS_PROCESSES 0
#endif
#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#define NUCLEUS_TESTS_EXCEPTIONS 1
#else
#define NUCLEUS_TESTS_EXCEPTIONS 0
#endif
