// Exceptions whose types have names that the wire reserves: these stand in no namespace.
#pragma once

#include <exception>

struct init : std::exception {};
namespace error {
struct Lost : std::exception {};
}  // namespace error
