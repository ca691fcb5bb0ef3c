# find_package(moe) gives the target moe::moe: libmoe.a, its headers and the threads it needs. Works wherever the prefix is
# moved to, and for both builds, since it looks only at <prefix>/lib and <prefix>/include.
include(CMakeFindDependencyMacro)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_dependency(Threads)

if(NOT TARGET moe::moe)
  get_filename_component(moe_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
  set(moe_libraries Threads::Threads)

  # A project of C alone has no C++ linker driver that would add these.
  get_property(moe_languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  if("CXX" IN_LIST moe_languages)
    set(moe_link_language CXX)
  else()
    set(moe_link_language C)
    list(APPEND moe_libraries stdc++ m)
  endif()

  add_library(moe::moe STATIC IMPORTED)
  set_target_properties(moe::moe PROPERTIES
    IMPORTED_LOCATION "${moe_prefix}/lib/libmoe.a"
    IMPORTED_LINK_INTERFACE_LANGUAGES "${moe_link_language}"
    INTERFACE_INCLUDE_DIRECTORIES "${moe_prefix}/include"
    INTERFACE_LINK_LIBRARIES "${moe_libraries}")
  unset(moe_prefix)
  unset(moe_libraries)
  unset(moe_languages)
  unset(moe_link_language)
endif()
