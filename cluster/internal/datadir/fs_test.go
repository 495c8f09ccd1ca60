package datadir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestOSFSWriteFileReplacesAndKeepsOthersOut(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte("old and longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Disk().WriteFile(name, []byte("new")); err != nil {
		t.Fatal(err)
	}
	got, err := Disk().ReadFile(name)
	if err != nil || string(got) != "new" {
		t.Fatalf("read %q, %v, want new", got, err)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if m := info.Mode().Perm(); m != 0o600 {
		t.Errorf("mode %#o, want 0600: an existing file must not keep a wider one", m)
	}
}

func TestOSFSFailedWriteLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	if err := os.Mkdir(name, 0o700); err != nil { // nothing can be renamed over it
		t.Fatal(err)
	}
	if err := Disk().WriteFile(name, []byte("x")); err == nil {
		t.Fatal("wrote over a directory")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestOSFSErrorsAreThoseOfOS(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "no", "f")
	if _, err := Disk().ReadFile(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read: %v", err)
	}
	if err := Disk().WriteFile(missing, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("write: %v", err)
	}
	if err := Disk().Rename(missing, filepath.Join(dir, "g")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rename: %v", err)
	}
}

func TestOSFSMkdirAll(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	for range 2 {
		if err := Disk().MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v, want mode 0700", info.Mode(), err)
	}
}
