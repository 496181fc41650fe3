# Writes the suite as a few large files, in which the header and the libraries are compiled once for
# all tests. What the test files include comes first; each of them follows in a namespace of its
# own, so that what it calls its helpers is its own affair.
#
#   cmake -DFOLDER=. -DPARTS=2 "-DTESTS=text.cpp;queue.cpp" -P suite.cmake   # ./part1.cpp, part2.cpp
#
# or, from another list file, write_suite(FOLDER PARTS TEST...).
set(suite_folder ${CMAKE_CURRENT_LIST_DIR})

function(write_suite folder parts)
  set(headers "")
  foreach(test IN LISTS ARGN)
    file(STRINGS ${suite_folder}/${test} includes REGEX "^#include ")
    foreach(include IN LISTS includes)
      string(REGEX REPLACE "^#include ([<\"][^>\"]*[>\"]).*" "\\1" header "${include}")
      string(REGEX REPLACE "^\"" "\"${suite_folder}/" header "${header}")
      list(APPEND headers "${header}")
    endforeach()
  endforeach()
  list(REMOVE_DUPLICATES headers)
  set(beginning "")
  foreach(header IN LISTS headers)
    string(APPEND beginning "#if __has_include(${header})\n#include ${header}\n#endif\n")
  endforeach()
  math(EXPR last "${parts} - 1")
  set(number 0)
  foreach(test IN LISTS ARGN)
    get_filename_component(name ${test} NAME_WE)
    string(APPEND tests${number}
      "namespace ${name}_tests {\n#include \"${suite_folder}/${test}\"\n}\n")
    math(EXPR number "(${number} + 1) % ${parts}")
  endforeach()
  foreach(number RANGE ${last})
    math(EXPR part "${number} + 1")
    file(CONFIGURE OUTPUT ${folder}/part${part}.cpp
      CONTENT "${beginning}${tests${number}}" @ONLY)
  endforeach()
endfunction()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  write_suite(${FOLDER} ${PARTS} ${TESTS})
endif()
