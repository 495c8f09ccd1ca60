package lockclient

import _ "embed"

// FenceCheckLua is a script for a resource that is itself kept in Redis: it
// writes a value only if no greater fence was seen. See fencecheck.lua for its
// keys and arguments.
//
//go:embed fencecheck.lua
var FenceCheckLua string

// FenceCheckSQL is a statement for a resource that is a row of a table: it
// changes no row when a greater fence was seen, and that is what to look at. It
// is one statement, so that it needs no transaction of its own.
//
//go:embed fencecheck.sql
var FenceCheckSQL string
