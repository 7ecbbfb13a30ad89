// SPDX-License-Identifier: Apache-2.0

package agentconfig_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/teep"
)

func key(t testing.TB) *cose.Key {
	t.Helper()
	priv, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := cose.NewKey(priv.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func config(t testing.TB) agentconfig.Config {
	return agentconfig.Config{
		Version: agentconfig.Version, Deployment: "d1", Hardware: "trustzone", Instance: "process", TAMURI: "https://tam.invalid/d1",
		TAMKeys: []*cose.Key{key(t), key(t)}, Owners: []agentconfig.Owner{{Key: key(t), App: "stats"}},
		Limits: agentconfig.Limits{TAs: 3},
	}
}

func TestRoundTrip(t *testing.T) {
	c := config(t)
	got, err := agentconfig.Parse(c.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest() != c.Digest() || !got.Owners[0].Key.Equal(c.Owners[0].Key) || got.Limits.TAs != 3 {
		t.Fatalf("%+v", got)
	}
	l := got.Limits.WithDefaults()
	if l.TAs != 3 || l.Manifests != 32 || l.UpdateTimeout().Minutes() != 30 || l.RequestTimeout().Minutes() != 5 {
		t.Fatalf("%+v", l)
	}
	if got.Limits.Manifests != 0 {
		t.Fatal("the defaults went into the measured configuration")
	}
}

// TestOptions: what is optional survives, and what is left out is not in the measured bytes.
func TestOptions(t *testing.T) {
	c := config(t)
	plain := len(c.Marshal())
	c.SigningAlg, c.TAMEncKey, c.Profile, c.ResultSeconds = cose.AlgEd25519, key(t), teep.ProfileDrafts, 60
	c.FurtherTAMs = []agentconfig.TAM{{URI: "https://other.invalid/", Keys: []*cose.Key{key(t)}, EncKey: key(t)}}
	got, err := agentconfig.Parse(c.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	tams := got.TAMs()
	if got.SigningAlg != cose.AlgEd25519 || got.Profile != teep.ProfileDrafts || got.ResultWindow() != time.Minute ||
		len(tams) != 2 || !tams[0].EncKey.Equal(c.TAMEncKey) || tams[1].URI != "https://other.invalid/" {
		t.Fatalf("%+v", got)
	}
	if plain >= len(c.Marshal()) || config(t).ResultWindow() != 24*time.Hour {
		t.Fatal("defaults")
	}
}

// TestShared: a configuration that lets an owner share the instance is another one, and says so.
func TestShared(t *testing.T) {
	c := config(t)
	alone := c.Digest()
	if c.Shared() || !c.Owners[0].Writes("stats") || c.Owners[0].Writes("other") || c.Owners[0].Writes("*") {
		t.Fatal("an instance of one application")
	}
	c.Owners = []agentconfig.Owner{{Key: c.Owners[0].Key, App: agentconfig.AnyApp}}
	got, err := agentconfig.Parse(c.Marshal())
	if err != nil || got.Digest() == alone || !got.Shared() {
		t.Fatal(err)
	}
	if o := got.Owners[0]; !o.Writes("stats") || !o.Writes("other") || o.Writes("*") || o.Writes("../x") || o.Writes("") {
		t.Fatal("a shared instance")
	}
}

func TestInvalid(t *testing.T) {
	for name, change := range map[string]func(*agentconfig.Config){
		"version":     func(c *agentconfig.Config) { c.Version = 2 },
		"deployment":  func(c *agentconfig.Config) { c.Deployment = "" },
		"hardware":    func(c *agentconfig.Config) { c.Hardware = "" },
		"instance":    func(c *agentconfig.Config) { c.Instance = strings.Repeat("x", 2000) },
		"TAM URI":     func(c *agentconfig.Config) { c.TAMURI = "" },
		"no TAM key":  func(c *agentconfig.Config) { c.TAMKeys = nil },
		"no owner":    func(c *agentconfig.Config) { c.Owners = nil },
		"owner's app": func(c *agentconfig.Config) { c.Owners[0].App = "a/b" },
		"no verifier": func(c *agentconfig.Config) { c.RequireTAMAttestation = true },
		"many owners": func(c *agentconfig.Config) { c.Owners = make([]agentconfig.Owner, 17) },
		"shared by two": func(c *agentconfig.Config) {
			c.Owners[0].App = "*"
			c.Owners = append(c.Owners, agentconfig.Owner{Key: c.TAMKeys[0], App: "x"})
		},
		"signing algorithm": func(c *agentconfig.Config) { c.SigningAlg = cose.AlgA128GCM },
		"profile":           func(c *agentconfig.Config) { c.Profile = "lax" },
		"old results":       func(c *agentconfig.Config) { c.ResultSeconds = 1 << 40 },
		"TAM without keys":  func(c *agentconfig.Config) { c.FurtherTAMs = []agentconfig.TAM{{URI: "http://tam.invalid"}} },
		"TAM without URI":   func(c *agentconfig.Config) { c.FurtherTAMs = []agentconfig.TAM{{Keys: c.TAMKeys}} },
		"one key for two":   func(c *agentconfig.Config) { c.TAMEncKey = c.TAMKeys[0] },
		"root":              func(c *agentconfig.Config) { c.TAMRoots = [][]byte{{1}} },
		"missing keys":      func(c *agentconfig.Config) { c.TAMKeys = []*cose.Key{nil} },
	} {
		c := config(t)
		change(&c)
		if err := c.Validate(); !errors.Is(err, agentconfig.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := config(t).Marshal()
	for i := range good {
		if _, err := agentconfig.Parse(good[:i]); !errors.Is(err, agentconfig.ErrInvalid) {
			t.Fatalf("cut to %d: %v", i, err)
		}
	}
	if _, err := agentconfig.Parse(make([]byte, agentconfig.MaxBytes+1)); !errors.Is(err, agentconfig.ErrInvalid) {
		t.Fatal(err)
	}
	if _, err := agentconfig.Parse(append(bytes.Clone(good), 0)); !errors.Is(err, agentconfig.ErrInvalid) {
		t.Fatal(err)
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"stats": true, "a.b-c_D9": true, strings.Repeat("x", 64): true,
		"": false, ".": false, "..": false, ".hidden": false, "a/b": false, "a b": false, "a\x00": false, "ä": false, strings.Repeat("x", 65): false,
	} {
		if agentconfig.ValidName(name) != want {
			t.Errorf("%q", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(config(f).Marshal())
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := agentconfig.Parse(data)
		if err == nil && !bytes.Equal(c.Marshal(), data) {
			t.Fatal("another encoding was accepted")
		}
	})
}
