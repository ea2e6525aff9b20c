// The QR code of the label brings the first-boot code behind the address, where no server sees it.

const code = document.getElementById("code");
const brought = decodeURIComponent(location.hash.slice(1));

if (brought) {
  if (!code.value) {
    code.value = brought;
    document.getElementById("name").focus();
  }
  history.replaceState(null, "", location.pathname); // it stays neither in the address nor in the history
}
