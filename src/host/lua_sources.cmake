# Writes OUT, a C file with the Lua modules below ROOT/leat as byte arrays (see lua_sources.h).
# Run as: cmake -DROOT=<lua folder> -DOUT=<file> -P lua_sources.cmake
#
# Byte arrays and not string literals: C compilers need not take literals over 4095 bytes.
file(GLOB_RECURSE files RELATIVE "${ROOT}" "${ROOT}/leat/*.lua")
list(SORT files)

set(arrays "")
set(rows "")
set(i 0)
foreach(file IN LISTS files)
    string(REGEX REPLACE "\\.lua$" "" name "${file}")
    string(REGEX REPLACE "/init$" "" name "${name}")
    string(REPLACE "/" "." name "${name}")
    file(READ "${ROOT}/${file}" hex HEX)
    if(hex STREQUAL "")
        set(hex "0a")
    endif()
    string(LENGTH "${hex}" digits)
    math(EXPR bytes "${digits} / 2")
    string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
    string(APPEND arrays "/* ${file} */\nstatic const unsigned char source_${i}[] = {\n${hex}};\n\n")
    string(APPEND rows
        "    {\"${name}\", \"@${file}\", (const char *)source_${i}, ${bytes}},\n")
    math(EXPR i "${i} + 1")
endforeach()

file(WRITE "${OUT}" "/* Made by lua_sources.cmake: do not edit. */\n#include \"host/lua_sources.h\"\n\n${arrays}\
const struct embedded_module embedded_modules[] = {\n${rows}    {NULL, NULL, NULL, 0},\n};\n")
