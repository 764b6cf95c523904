// Shows the growing video as soon as its first window is there, then the finished one, at the moment that was watched.
const video = element.querySelector("video"), empty = element.querySelector(".empty");
const badge = element.querySelector(".badge"), note = element.querySelector(".note");
let key = null, source = null, next = null, asked = false;

// On a phone the player is below the form: who asks for a video is led to it.
document.addEventListener("click", (event) => { if (event.target.closest?.("#make, #first")) asked = true; });

function say(text) { note.textContent = text; note.hidden = !text; }

// Every window makes the list of what can be watched longer; the longer one is taken when the shorter one is used up.
function usedUp() { return video.ended || Boolean(video.error) || video.currentTime > video.duration - 0.05; }

function show(address, live) {
  const at = source && !video.error ? video.currentTime : 0;
  const still = source !== null && video.paused && !usedUp();
  source = address;
  next = null;
  empty.hidden = true;
  video.hidden = false;
  badge.textContent = "live: still being made";
  badge.hidden = !live;
  video.onloadedmetadata = () => {
    video.onloadedmetadata = null;
    if (at > 0 && at < video.duration - 0.05) video.currentTime = at;
  };
  video.src = address;
  if (!still) video.play().catch(() => {}); // without a click on this page the browser waits for one
}

function follow() {
  const value = props.value || {};
  if (value.key !== key) {
    key = value.key;
    if (asked && innerWidth < 800) element.scrollIntoView({ block: "start" });
    asked = false;
    source = next = null;
    video.pause();
    video.removeAttribute("src");
    video.load();
    video.hidden = badge.hidden = true;
    empty.hidden = false;
    say("");
  }
  const wanted = value.final || value.live;
  if (!wanted || wanted === source) return;
  if (!value.final && !video.canPlayType("application/vnd.apple.mpegurl")) {
    say("This browser cannot play a video that is still being made; it appears here when it is finished.");
    return;
  }
  say("");
  if (value.final || source === null || usedUp()) show(wanted, !value.final);
  else next = wanted;
}
for (const name of ["ended", "error"]) video.addEventListener(name, () => { if (next) show(next, true); });
watch("value", follow);
follow();
