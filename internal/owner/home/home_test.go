// SPDX-License-Identifier: Apache-2.0

package home_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/internal/owner/home"
)

func open(t *testing.T) *home.Home {
	t.Helper()
	h, err := home.Open(filepath.Join(t.TempDir(), "home"))
	must(t, err)
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestKeys(t *testing.T) {
	h := open(t)
	if _, err := h.Key("owner"); !errors.Is(err, home.ErrNotFound) {
		t.Errorf("a key that is not there: %v", err)
	}
	key, made, err := h.EnsureKey("owner", rand.Reader)
	must(t, err)
	again, madeAgain, err := h.EnsureKey("owner", rand.Reader)
	must(t, err)
	if !made || madeAgain || !key.Public().Equal(again.Public()) {
		t.Error("the key was made twice")
	}
	if _, err := h.CreateKey("owner", cose.AlgEd25519, rand.Reader); !errors.Is(err, home.ErrExists) {
		t.Errorf("a key was replaced: %v", err)
	}
	_, err = h.CreateKey("second", cose.AlgEd25519, rand.Reader)
	must(t, err)
	infos, err := h.Keys()
	must(t, err)
	if len(infos) != 2 || infos[1].Algorithm != "ed25519" {
		t.Errorf("keys %+v", infos)
	}
	found, err := h.KeyByPublic(infos[1].Public)
	must(t, err)
	if found.Name != "second" {
		t.Errorf("found %s", found.Name)
	}
	if text := fmt.Sprintf("%v %+v %#v", key, key, key); strings.Contains(text, "PRIVATE") || text != "key owner key owner key owner" {
		t.Errorf("a key prints as %q", text)
	}
	for _, name := range []string{"", ".hidden", "a/b", "../x", strings.Repeat("a", 100)} {
		if _, err := h.CreateKey(name, cose.AlgESP256, rand.Reader); !errors.Is(err, home.ErrName) {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

// TestModes: nobody else reads a file of the owner's folder.
func TestModes(t *testing.T) {
	h := open(t)
	_, _, err := h.EnsureKey("owner", rand.Reader)
	must(t, err)
	must(t, h.SetContext("c", home.Context{URL: "http://127.0.0.1:1", Token: "secret"}))
	must(t, h.SetPolicy("p", []byte("{}"), false))
	_, err = h.NextSequence("app")
	must(t, err)
	must(t, filepath.WalkDir(h.Dir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	}))
}

func TestSequenceNumbersAreGivenOnce(t *testing.T) {
	h := open(t)
	var mu sync.Mutex
	var wg sync.WaitGroup
	seen := map[uint64]bool{}
	for range 8 {
		wg.Go(func() {
			for range 10 {
				n, err := h.NextSequence("app")
				mu.Lock()
				if err != nil || seen[n] {
					t.Errorf("number %d, %v", n, err)
				}
				seen[n] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	must(t, h.RaiseSequence("app", 1000))
	must(t, h.RaiseSequence("app", 7))
	if n, err := h.NextSequence("app"); n != 1001 || err != nil {
		t.Errorf("after raising: %d, %v", n, err)
	}
}

func TestContexts(t *testing.T) {
	h := open(t)
	if _, _, err := h.Context(""); !errors.Is(err, home.ErrNotFound) {
		t.Errorf("no context: %v", err)
	}
	for _, bad := range []home.Context{{URL: "ftp://x"}, {URL: "nothing"}, {URL: "http://example.invalid", Token: "t"}, {URL: "http://127.0.0.1", Token: "a b"}} {
		if err := h.SetContext("bad", bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
	must(t, h.SetContext("one", home.Context{URL: "http://127.0.0.1:1", Token: "t"}))
	must(t, h.SetContext("two", home.Context{URL: "https://moc.invalid", Token: "t"}))
	must(t, h.UseContext("one"))
	c, name, err := h.Context("")
	must(t, err)
	if name != "one" || c.URL != "http://127.0.0.1:1" {
		t.Errorf("in use: %s %+v", name, c)
	}
}

func TestAnchors(t *testing.T) {
	h := open(t)
	pki, err := emuroot.New(rand.Reader, evidence.TrustZone, time.Now())
	must(t, err)
	must(t, h.AddAnchor(pki.Anchor()))
	must(t, h.AddAnchor(pki.Anchor()))
	list, err := h.Anchors()
	must(t, err)
	if len(list) != 1 || list[0].Fingerprint() != pki.Fingerprint() || !list[0].IsEmulated() {
		t.Errorf("anchors %v", list)
	}
}

func TestDamagedFile(t *testing.T) {
	h := open(t)
	must(t, h.AddDeployment("d", map[string]string{"id": "d"}))
	must(t, os.WriteFile(filepath.Join(h.Dir(), "deployments", "d.json"), []byte(`{"id":`), 0o600))
	type dep struct {
		ID string `json:"id"`
	}
	if _, err := home.Deployments[dep](h); !errors.Is(err, home.ErrDamaged) {
		t.Errorf("a damaged file: %v", err)
	}
	must(t, h.RemoveDeployment("d"))
	must(t, h.RemoveDeployment("d"))
}
