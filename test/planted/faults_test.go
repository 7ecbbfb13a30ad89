// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package planted

import "slices"

// faults holds at least one fault for each promise of the design (docs/architecture.md section 6), and one for each fault of the demo
// that nobody notices any more.
var faults = slices.Concat(released, secret, ordered, fresh, appraised, durable, deleted, demonstrated)

// I1: no PD before a positive appraisal by the owner. M/OC, TAM and owner each hold it.
var released = []fault{
	{"I1", "the TAM sends PD unasked", []edit{{"internal/tam/proceed.go",
		"&& !course.Appraised(d) ||", "&& false ||"}}, "internal/tam", "TestPDWaits"},
	{"I1", "the M/OC takes a release without an appraisal", []edit{{"internal/moc/evidence.go",
		"if a == nil || a.ID != id || !course.Appraised(course.Current(d)) {", "if a != nil && a.ID == \"\" {"}}, "internal/moc", "TestCourse"},
	{"I1", "the owner releases to another Agent than the appraised one", []edit{{"internal/owner/release.go",
		"!now.AgentKey.Equal(a.state.AgentKey)", "false"}}, "internal/owner", "TestReleaseNeedsAppraisal"},
	{"I1", "the owner believes that it has appraised", []edit{{"internal/owner/appraised.go",
		"return nil, errNotAppraised(\"no positive appraisal of this deployment is known\")",
		"return &Appraised{Deployment: d.ID, positive: true}, nil"}}, "internal/owner", "TestReleaseNeedsAppraisal"},
	{"I1", "an appraisal of the Agent alone lets the PD come", []edit{{"internal/moc/course/course.go",
		"p != nil && slices.Contains(manifests, p.ManifestDigest) {", "p != nil {"}}, "internal/tam", "TestPDWaitsForTheTA"},
	{"I1", "a TA that its owner has stopped runs with its PD when the instance starts", []edit{
		{"internal/agent/transaction.go", "if t.next.held(c.ID) {", "if false {"},
		{"internal/agent/tas.go", "if s.held(ta.ID) {", "if false {"}}, "internal/agent", "TestHold"},
	{"I1", "a deployment that was started again needs no new appraisal", []edit{{"internal/moc/course/stop.go",
		"d.Private.Unappraised = d.Private.Unappraised || d.Private.Appraised != nil || len(d.Trace) == len(d.Plan)",
		"d.Private.Unappraised = false"}}, "internal/moc", "TestStopStart"},
	{"I1", "the owner delivers PD to any key", []edit{{"internal/owner/call.go",
		"if err != nil || !got.Equal(pinned) {", "if err != nil || got == nil {"}}, "internal/owner", "TestDeliverRefused"},
	{"I1", "the Evidence of a delivery's session is not judged", []edit{{"internal/owner/deliver.go",
		"if !result.OK() {", "if verified == nil {\n\t\treturn nil\n\t}\n\tif false {"}}, "internal/owner", "TestDeliverRefused"},
	{"I1", "the plan has PD before the attestation", []edit{{"usecase/sequence.go",
		"ModeTAPD:         {3, []stepMaker{admit, taToInstance, attest, pdToTA}}", "ModeTAPD: {3, []stepMaker{admit, taToInstance, pdToTA, attest}}"}}, "usecase", "TestPrinciples"},
}

// I2: PD is never in the clear outside a TEE.
var secret = []fault{
	{"I2", "the owner stores instead of encrypting", []edit{{"internal/owner/seal.go",
		"if _, err := cipher.Seal(io.MultiWriter(f, h), src); err != nil {",
		"_ = cipher\n\tif _, err := io.Copy(io.MultiWriter(f, h), src); err != nil {"}}, "internal/owner", "TestNoTraceOfPDLeaves"},
	{"I2", "the owner names files by the digest of their content", []edit{{"internal/owner/seal.go",
		"out.item.Kind, out.item.Name, out.item.Launch = c.Kind, c.Name, c.Launch",
		"out.item.Kind, out.item.Name, out.item.Launch = c.Kind, c.SHA256[:60], c.Launch"}}, "internal/owner", "TestNoTraceOfPDLeaves"},
	{"I2", "the Agent lists the digest of PD", []edit{{"internal/agent/engine.go",
		"if class(c.ID) != classPD {", "if true {"}}, "internal/agent", "TestModeUATAPD"},
	{"I2", "a manifest that takes something out opens what is sealed to a TA", []edit{{"internal/agent/update.go",
		"\t\tt.keys = append(t.keys, enc)", "\t\tt.keys = append(t.keys, enc, t.a.identity.enc)"}, {"internal/agent/update.go",
		"if len(depends) == 0 || slices.ContainsFunc(m.Components, func(id suit.ComponentID) bool { return class(id) == classREE }) {",
		"if len(depends) == 0 {"}}, "internal/agent", "TestUAPDForAnotherTA"},
	{"I2", "what its owner delivers is stored on the device", []edit{{"internal/agent/platform.go",
		"return t.a.vault.CreateVolatile()", "return t.a.vault.Create()"}}, "internal/agent", "TestDeliverPD"},
	{"I2", "PD prints its content", []edit{{"internal/pd/pd.go",
		"func (p Plain) String() string { return", "func (p Plain) String() string { r, _ := p.Open(); b, _ := io.ReadAll(r); return string(b) +"}},
		"internal/pd", "TestPlainNeverPrintsItsContent"},
}

// I3: the trace equals the plan. I4: an older sequence number never replaces a newer one.
var ordered = []fault{
	{"I3", "a step that was reported too early is sorted", []edit{{"internal/moc/course/observe.go",
		"if early, ok := overtaker(d, s); ok {", "if early, ok := overtaker(d, s); false && ok {"}}, "internal/moc/course", "TestAdvance"},
	{"I3", "the manifest before is enough for a step", []edit{{"internal/moc/course/observe.go",
		"if role == \"\" || !Present(d, role) {", "if role == \"\" {"}}, "internal/moc/course", "TestAdvance"},
	{"I3", "a TA is sent that its UA has not asked for", []edit{{"internal/moc/course/course.go",
		"if i >= len(d.Trace) && awaitsUA(d, step) {", "if false && awaitsUA(d, step) {"}}, "internal/tam", "TestTAOnRequest"},
	{"I3", "a TA is started that its UA has not asked for", []edit{{"internal/agent/platform.go",
		"if c.Waits = t.mustWait(c); c.Waits {", "if c.Waits = false; c.Waits {"}}, "internal/agent", "TestTAOnRequest"},
	{"I3", "a TA is started before the UA of its manifest is out", []edit{{"internal/agent/platform.go",
		"if len(t.starts) > 0 && !t.held { // the manifest has its UA first", "if false { // the manifest has its UA first"}}, "internal/agent", "TestUAGoesOutFirst"},
	{"I3", "a step is taken back", []edit{{"internal/store/deployment.go",
		"|| len(d.Trace) < len(old.Trace) {", "{"}}, "internal/store", "TestTraceOnce"},
	{"I4", "the Agent takes an older manifest", []edit{
		{"internal/agent/update.go", "m.Sequence < lowest {", "false && m.Sequence < lowest {"},
		{"suit/processor/admit.go", "f.manifest.Sequence < installed {", "false && f.manifest.Sequence < installed {"}},
		"internal/agent", "TestRollback"},
	{"I4", "the processor takes an older manifest", []edit{{"suit/processor/admit.go",
		"f.manifest.Sequence < installed {", "false && f.manifest.Sequence < installed {"}}, "suit/processor", "TestRollback"},
	{"I4", "an older manifest takes the place of a candidate", []edit{{"internal/agent/update.go",
		"m.Sequence <= next.Manifest.Sequence {", "false && m.Sequence <= next.Manifest.Sequence {"}}, "internal/agent", "TestUpdateNotBelow"},
	{"I4", "the M/OC takes an older update", []edit{{"internal/moc/course/update.go",
		"newer[role].Sequence > have.Sequence ||", "true ||"}}, "internal/moc/course", "TestBelow"},
	{"I4", "a removal forgets the sequence number", []edit{{"internal/agent/uninstall.go",
		"t.next.raiseFloor(id, m.Sequence+1)", "t.next.raiseFloor(id, 0)"}}, "internal/agent", "TestRollback"},
	{"I4", "the Agent takes an older sealed state", []edit{{"internal/agent/vault/vault.go",
		"switch number {", "switch number = v.number; number {"}}, "internal/agent/vault", "TestRollbackIsRefused"},
}

// I5: a TA that differs from the appraised one gets no PD. I7: a production policy never accepts an emulated root.
var appraised = []fault{
	{"I5", "a guest may have been booted with another TA than the signed one", []edit{{"internal/agent/runner/guest/guest.go",
		"if n != m || !bytes.Equal(x[:n], y[:m]) {", "if n != m || false && !bytes.Equal(x, y) {"}}, "internal/agent/runner/guest", "TestBootedWithAnother"},
	{"I5", "the owner takes the operator's word for what a guest is booted with", []edit{{"internal/owner/config.go",
		"should.Layer = bootedWith(want.pkg, got.Instance)", "should.Layer = c.Layer"}}, "internal/owner", "TestBootedWith"},
	{"I5", "a guest payload is unpacked over the Agent", []edit{{"internal/image/initramfs/layer.go",
		"case !strings.HasPrefix(name, LayerDir+\"/\"):", "case false:"}}, "internal/image/initramfs", "TestHostileLayers"},
	{"I5", "the digest of the TA is not compared", []edit{{"appraisal/compare.go",
		"a.judge(f, matches,", "a.judge(f, matches || true,"}}, "appraisal", "TestRefused"},
	{"I5", "a delivery is taken from anybody", []edit{{"internal/agent/delivery.go",
		"if o.Writes(app) && isOwner(cs, o.Key) == nil {", "if o.Writes(app) {"}}, "internal/agent", "TestDeliverRefused"},
	{"I5", "a delivery ends at another key than the TA's", []edit{{"internal/agent/update.go",
		"if err := t.live.mayOpen(tas); err != nil {", "if err := t.live.mayOpen(tas); false && err != nil {"}}, "internal/agent", "TestDeliverRefused"},
	{"I5", "an update inherits PD", []edit{
		{"internal/agent/candidate.go", "if old == nil || old.Digest.Equal(m.Digest) {\n\t\treturn false", "if true || old == nil {\n\t\treturn false"},
		{"internal/agent/update.go", "\t\tt.dropDependents(ctx, t.root)\n", ""},
		{"internal/agent/tas.go", "&& bytes.Equal(c.BoundTo, ta.Digest.Bytes) {", "&& (true || bytes.Equal(c.BoundTo, ta.Digest.Bytes)) {"}},
		"internal/agent", "TestUpdateInheritsNoPD"},
	{"I5", "PD is shown to another version of its TA", []edit{{"internal/agent/tas.go",
		"&& bytes.Equal(c.BoundTo, ta.Digest.Bytes) {", "&& (true || bytes.Equal(c.BoundTo, ta.Digest.Bytes)) {"}},
		"internal/agent", "TestDataForAnotherTA"},
	{"I5", "the digest of a dependency is not compared", []edit{{"suit/processor/dependency.go",
		"if !want.Equal(child.manifest.Digest) {", "if false {"}}, "internal/agent", "TestSwappedTA"},
	{"I5", "the Agent takes a second application without permission", []edit{
		{"internal/agentconfig/agentconfig.go", "(o.App == app || o.App == AnyApp)", "(true || o.App == AnyApp)"},
		{"internal/agent/rights.go", "if app == agentconfig.AnyApp {", "if true || app == agentconfig.AnyApp {"}}, "internal/agent", "TestSharingIsAllowed"},
	{"I5", "an owner that shares an instance accepts anybody's TA in it", []edit{{"appraisal/compare.go",
		"if slices.Contains(beside, signer) {", "if signer != \"\" {"}}, "internal/owner", "TestSharing"},
	{"I5", "an owner accepts an instance that is shared unasked", []edit{{"internal/owner/config.go",
		"case want.sharing:", "case want.sharing || c.Shared():"}}, "internal/owner", "TestRefused"},
	{"I5", "PD is shown to the same program in another application", []edit{{"internal/agent/tas.go",
		"class(c.ID) == classPD && app(c.ID) == app(ta.ID) &&", "class(c.ID) == classPD &&"}}, "internal/agent", "TestSharing"},
	{"I5", "another Verifier makes an unexpected configuration good", []edit{{"internal/verifier/panel.go",
		"case !r.OK() && final == \"\":", "case !r.OK():"}}, "internal/verifier", "TestPanelOverrulesOpinionsOnly"},
	{"I7", "a production policy accepts emulated hardware", []edit{{"appraisal/appraise.go",
		"case a.v.Emulated && a.p.Production:", "case false:"}}, "appraisal", "TestRefused"},
	{"I7", "the subject of a root is not looked at", []edit{{"evidence/anchor.go",
		"|| a.Cert != nil &&", "|| false && a.Cert != nil &&"}}, "evidence", "TestRoots"},
	{"I7", "the emulated name is not told apart", []edit{{"evidence/verify.go",
		"if emu != emulated && hw.Rooted {", "if false {"}}, "evidence", "TestEmulatedIsToldApart"},
}

// I6: a replayed, reordered, truncated or altered message changes nothing.
var fresh = []fault{
	{"I6", "a token is good twice", []edit{{"internal/tam/tam.go",
		"if !fresh {", "if false && !fresh {"}}, "internal/tam", "TestReplay"},
	{"I6", "a TA that was killed in its answer has said everything", []edit{{"internal/agent/runner/serve.go",
		"if server == 0 || !exiting(server) && !t.diesHidden(ctx, r) {", "if true {"}}, "internal/agent/runner", "TestEndOfAnAnswer"},
	{"I6", "a token is good for anything", []edit{{"internal/tam/token.go",
		"|| !hmac.Equal(token[macStart:], e.mac(kind, deployment, binding, token[:macStart])) {", "{"}}, "internal/tam", "TestTokens"},
	{"I6", "a report of another Update counts", []edit{{"internal/tam/proceed.go",
		"if !bytes.Equal(r.Nonce, token) {", "if false && !bytes.Equal(r.Nonce, token) {"}}, "internal/tam", "TestReportNonce"},
	{"I6", "the nonce of Evidence is not compared", []edit{{"evidence/verify.go",
		"if !bytes.Equal(want, got) {", "if false && !bytes.Equal(want, got) {"}}, "evidence", "TestReplayNamesNonce"},
	{"I6", "the nonce of a TPM's quote is not compared", []edit{{"evidence/tpm/verify.go",
		"if !bytes.Equal(a.ExtraData.Buffer, nonce[:]) {", "if false {"}}, "evidence/tpm", "TestSignedFields"},
	{"I6", "the event log of a boot is not replayed", []edit{{"evidence/tpm/verify.go",
		"if !bytes.Equal(values[r], q.PCRs[k][:]) {", "if false {"}}, "evidence/tpm", "TestRegisters"},
	{"I6", "the binding of Evidence is not recomputed", []edit{{"evidence/verify.go",
		"\t\tcheckBinding(b, claims, hw, in, f)\n", ""}}, "evidence", "TestChangedClaims"},
	{"I6", "any signature is good", []edit{{"cose/verify.go",
		"if m.matches(s, k, payload, o.ExternalAAD) {", "if m.matches(s, k, payload, o.ExternalAAD) || true {"}},
		"cose", "TestEveryBitFlipIsNoticed"},
	{"I6", "the signature of an SNP report is not checked where its certificate is known", []edit{{"evidence/snp/hardware.go",
		"if err := checkSignature(c.data, e.cert); err != nil {", "if err := checkSignature(c.data, e.cert); false && err != nil {"}},
		"evidence/all", "TestDamaged"},
	{"I6", "an SNP report goes with any chip's certificate", []edit{{"evidence/snp/hardware.go",
		"range e.differences(c.report) {", "range e.differences(c.report)[:0] {"}}, "evidence/all", "TestAlteredField"},
	{"I6", "a CCA realm token goes with any platform token", []edit{{"evidence/cca/hardware.go",
		"case hex.EncodeToString(want) != hex.EncodeToString(got):", "case false:"}}, "evidence/cca", "TestHardwareNamesTheBinding"},
	{"I6", "the signature of a CSV report is not checked", []edit{{"evidence/csv/hardware.go",
		"if !c.m.pek.verify(c.m.signed, &c.m.signature) {", "if false {"}}, "evidence/all", "TestDamaged"},
	{"I6", "a CSV chip is vouched for by nobody", []edit{{"evidence/csv/hardware.go",
		"if err := cek.issued(hsk); err != nil || cek.issuer != hsk.keyID {", "if false {"}}, "evidence/all", "TestCSVChainOfAnotherHSK"},
	{"I6", "an enrolled key vouches for any instance", []edit{{"evidence/verifier.go",
		"if len(want) == 0 || bytes.Equal(want, s.InstanceID) {", "if len(want) >= 0 {"}}, "evidence", "TestEnrolledInstance"},
	{"I6", "the issuer of a chip's key is not looked up among the revoked", []edit{{"evidence/snp/hardware.go",
		"c.all = append(c.all, c.in.CheckRevocation(&c.h.lists, above, c.signed)...)", "_ = above"}}, "evidence/snp", "TestRevocation"},
	{"I6", "the digest of a streamed ciphertext is taken for granted", []edit{{"suit/processor/stream.go",
		"got := suit.Digest{Alg: want.Alg, Bytes: h.Sum(nil)}", "got := want"}}, "suit/processor", "TestStreamed"},
	{"I6", "what was streamed is kept whatever comes after it", []edit{{"suit/processor/stream.go",
		"case len(p.rest) == 0 || &p.rest[0] != cmd:", "case false:"}}, "suit/processor", "TestStreamed"},
	{"I6", "a piece of sealed storage counts before its tag was checked", []edit{{"internal/agent/vault/blob.go",
		"if err != nil {\n\t\treturn fmt.Errorf(\"%w: chunk %d of a blob\"", "if err != nil {\n\t\tplain = chunk[:size]\n\t}\n\tif false {\n\t\treturn fmt.Errorf(\"%w: chunk %d of a blob\""}},
		"internal/agent/vault", "TestLargeBlobOnDisk"},
	{"I6", "a transfer that was cut off counts as whole", []edit{{"suit/processor/queue.go",
		"if err == io.EOF {\n\t\t\treturn nil", "if err != nil {\n\t\t\treturn nil"}}, "suit/processor", "TestQueueErrors"},
	{"I6", "a sealed file may be cut short", []edit{{"internal/agent/vault/blob.go",
		"\tif last {\n", "\tif false && last {\n"}}, "internal/agent/vault", "TestBlobs"},
}

// I8: bad input gets a clear error and nothing is lost. I9: killed at any instant, every process restarts into a
// consistent state.
var durable = []fault{
	{"I8", "a map key may repeat", []edit{{"cose/wire/valid.go",
		"_, dup := seen[string(key)]; dup {", "_, dup := seen[string(key)]; false && dup {"}}, "cose/wire", "TestValid"},
	{"I8", "bytes may follow", []edit{{"cose/wire/valid.go",
		"if end != len(data) {", "if false {"}}, "cose/wire", "TestValid"},
	{"I8", "nesting is unbounded", []edit{{"cose/wire/valid.go",
		"if depth >= MaxDepth {", "if false {"}}, "cose/wire", "TestValid"},
	{"I8", "a message that is too long is cut", []edit{{"teep/teephttp/server.go",
		"http.MaxBytesReader(w, r.Body, h.o.MaxBody)", "io.LimitReader(r.Body, h.o.MaxBody)"}}, "teep/teephttp", "TestServerBodiesOfUnknownLength"},
	{"I8", "a refused manifest leaves its files", []edit{{"internal/agent/transaction.go",
		"ta.stop()\n\t}\n\tfor _, ref := range t.blobs {", "ta.stop()\n\t}\n\tfor _, ref := range t.blobs[:0] {"}},
		"internal/agent", "TestTAThatCannotStart"},
	{"I8", "two TAs of one name share an instance", []edit{{"internal/moc/sharing.go",
		"case d.App == w.app:", "case d.App == \"\":"}}, "internal/moc", "TestSharingRefused"},
	{"I8", "the removal of one application ends the instance of others", []edit{{"internal/moc/course/share.go",
		"if !Needed(d, beside) {", "if true || !Needed(d, beside) {"}}, "internal/moc", "TestSharingStubborn"},
	{"I8", "a UA listens on whatever port it likes", []edit{{"internal/platform/sandbox/confine_linux.go",
		"HandledAccessNet: ll.AccessNetBindTCP,", "HandledAccessNet: 0,"}}, "internal/broker/ree", "TestUAIsConfined"},
	{"I8", "who may install data installs programs", []edit{
		{"internal/agent/transaction.go", "t.a.rights().Allow,", "nil,"},
		{"internal/agent/authorize.go", "&& mayName(o, class(id)) {", "{"}}, "internal/agent", "TestRightsOfOwners"},
	{"I9", "what was in memory counts as installed after a restart", []edit{{"internal/agent/agent.go",
		"err == nil && s.forgetLive() {", "err == nil && false && s.forgetLive() {"}}, "internal/agent", "TestDeliverPD"},
	{"I9", "the TAM sends what only its owner can deliver", []edit{{"internal/tam/proceed.go",
		"|| course.Live(d, p.Role)) {", "|| false && course.Live(d, p.Role)) {"}}, "internal/moc", "TestDelivery"},
	{"I9", "the sealed state is not synced", []edit{{"internal/agent/vault/vault.go",
		"err = f.Sync()", "_ = f.Sync"}}, "internal/agent/vault", "TestCrashAtEveryStep"},
	{"I9", "the folder is not synced before the counter moves", []edit{{"internal/agent/vault/vault.go",
		"v.fs.SyncDir(\".\")", "error(nil)"}}, "internal/agent/vault", "TestCrashAtEveryStep"},
	{"I9", "a blob is not synced before the state names it", []edit{{"internal/agent/vault/blob.go",
		"err = w.f.Sync()", "_ = w.f.Sync"}}, "internal/agent/vault", "TestCrashAtEveryStep"},
	{"I9", "a start does not close the fork", []edit{{"internal/agent/vault/vault.go",
		"rand: rand, fork: true}", "rand: rand}"}}, "internal/agent/vault", "TestForkIsRefused"},
	{"I9", "a UA goes out without a note", []edit{{"internal/agent/transaction.go",
		"\treturn t.a.commit(now)\n", "\treturn nil\n"}}, "internal/agent", "TestPowerCutOfSets"},
	{"I9", "a UA that was to be removed is forgotten", []edit{{"internal/agent/transaction.go",
		"if t.next.component(id) == nil && !slices.ContainsFunc(t.next.Lost, id.Equal) {", "if false {"}}, "internal/agent", "TestPowerCutOfSets"},
	{"I9", "the M/OC does not wait for the disk", []edit{{"internal/store/store.go",
		"synchronous(FULL)", "synchronous(NORMAL)"}}, "internal/store", "TestWritesWaitForTheDisk"},
	{"I9", "a failed write leaves its half", []edit{{"internal/store/writer.go",
		"exec(\"ROLLBACK TO one\")", "error(nil)"}}, "internal/store", "TestFailedWriteLeavesNothing"},
}

// I10: deleting leaves nothing to recover.
var deleted = []fault{
	{"I10", "the Agent keeps PD that was removed", []edit{
		{"internal/agent/platform.go", "\tt.next.dropComponent(id)\n\treturn nil\n", "\tif class(id) != classPD {\n\t\tt.next.dropComponent(id)\n\t}\n\treturn nil\n"},
		{"internal/agent/uninstall.go", "\t\t\tt.discard(c.ID)\n", "\t\t\tif class(c.ID) != classPD {\n\t\t\t\tt.discard(c.ID)\n\t\t\t}\n"}}, "internal/agent", "TestModeUATAPD"},
	{"I10", "the Agent leaves files without a key", []edit{{"internal/agent/agent.go",
		"range old.refsNotIn(s) {", "range old.refsNotIn(old) {"}}, "internal/agent", "TestModeUATAPD"},
	{"I10", "what a crash left stays", []edit{{"internal/agent/vault/blob.go",
		"errs = append(errs, v.fs.Remove(blobPath(name)))", "_ = blobPath(name)"}}, "internal/agent/vault", "TestSweepAndFolder"},
	{"I10", "the salt of an instance stays on the disk", []edit{{"internal/platform/emulator/machine_linux.go",
		"if err := overwrite(filepath.Join(dir, \"instance\", name)); err != nil {", "if err := error(nil); err != nil {\n\t\t\t\t_ = name"}},
		"internal/platform/emulator", "TestDestroyWipes"},
	{"I10", "a destroyed instance comes back", []edit{{"internal/platform/emulator/machine_linux.go",
		"if err := os.RemoveAll(dir); err != nil {\n\t\t\treturn fmt.Errorf(\"emulator: wiping", "if err := error(nil); err != nil {\n\t\t\treturn fmt.Errorf(\"emulator: wiping"}},
		"internal/platform/emulator", "TestDestroy"},
	{"I10", "deleted rows stay in the database's file", []edit{{"internal/store/store.go",
		"\"secure_delete(ON)\",", ""}}, "internal/store", "TestForgottenIsOverwritten"},
}

// demonstrated are the faults of `sealift demo --break`, let through by the checks that should name them.
var demonstrated = []fault{
	{"demo", "the digest of the Agent is not compared", []edit{{"appraisal/measure.go",
		"return bytes.Equal(d.Bytes, value) })", "return len(d.Bytes) > 0 })"}}, "test/e2e", "TestDemoBreaks/measurement"},
	{"demo", "neither digest nor number of the TA is compared", []edit{
		{"appraisal/compare.go", "a.judge(f, matches,", "a.judge(f, matches || true,"},
		{"appraisal/compare.go", "a.judge(f, got.Sequence >= want.MinSequence,", "a.judge(f, true,"}},
		"test/e2e", "TestDemoBreaks/ta-swap"},
	{"demo", "neither nonce nor binding is compared", []edit{
		{"evidence/verify.go", "if !bytes.Equal(want, got) {", "if false && !bytes.Equal(want, got) {"},
		{"evidence/verify.go", "\t\tcheckBinding(b, claims, hw, in, f)\n", ""}}, "test/e2e", "TestDemoBreaks/nonce"},
	{"demo", "the signature of the hardware is believed", []edit{{"evidence/psa/sign1.go",
		"if m.msg.verify(m.alg, pub) {", "if m.msg.verify(m.alg, pub) || true {"}},
		"test/e2e", "TestDemoBreaks/signature"},
	{"demo", "the Agent takes an older manifest", []edit{
		{"internal/agent/update.go", "m.Sequence < lowest {", "false && m.Sequence < lowest {"},
		{"suit/processor/admit.go", "f.manifest.Sequence < installed {", "false && f.manifest.Sequence < installed {"}},
		"test/e2e", "TestDemoBreaks/rollback"},
	{"demo", "nobody asks for an appraisal", []edit{
		{"internal/owner/appraised.go", "return nil, errNotAppraised(\"no positive appraisal of this deployment is known\")",
			"return &Appraised{Deployment: d.ID, positive: true}, nil"},
		{"internal/owner/release.go", "!now.AgentKey.Equal(a.state.AgentKey)", "false"},
		{"internal/owner/release.go", "return nil, \"\", nil, errNotAppraised(\"the appraised Evidence does not name the TA\")",
			"return d.Package.Owner, manifest.RolePD, kinds, nil"},
		{"internal/tam/proceed.go", "&& !course.Appraised(d) ||", "&& false ||"},
		{"internal/moc/course/course.go", "if i >= len(d.Trace) {", "if false && i >= len(d.Trace) {"}}, "test/e2e", "TestDemoBreaks/pd-early"},
}
